"""`python -m proxy` is `triage`."""

from proxy.main import main

main()
