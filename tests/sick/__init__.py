"""The fault lab: small real apps, each sick in one way, behind a real gateway under load; is it named rightly?

    python -m tests.sick --list
    python -m tests.sick --only deadlock oom --seconds 10 --keep /tmp/kept

case     what a case is: app, config, load, truth        labels   causes, and how answers are matched with them
cases/   all of them, by kind                            judge    right, wrong, not known
apps/    the apps                                        play     one case from its start to its verdict
peers    servers that apps depend on                     table    what came of all
load     streams of requests                             scene    one case on its feet, and ended
"""
