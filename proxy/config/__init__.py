"""Text to a frozen Config, or to all of its problems at once with file and line.

schema       all keys: types, defaults, meanings       conditions   the grammar of `when`, `out`, `in`
load         a file or text through the stages below   lines        key path -> line
walk         raw tables -> values, by the schema       readers      what each kind of text must look like
check        what must agree between keys              problems     what is told when it does not
listen       where the gateway listens                 resolve      what it means on this machine
diff         what a reload has to do                   remarks      what `triage check` adds
write        a Config back to text, secrets masked     command      `triage run` as a config
docs         docs/configuration.md, made from schema
"""

from proxy.config.command import for_command as for_command
from proxy.config.conditions import Condition as Condition
from proxy.config.conditions import Step as Step
from proxy.config.diff import AppChange as AppChange
from proxy.config.diff import Changes as Changes
from proxy.config.diff import diff as diff
from proxy.config.listen import Listen as Listen
from proxy.config.listen import parse_listen as parse_listen
from proxy.config.load import load as load
from proxy.config.load import parse as parse
from proxy.config.problems import Bad as Bad
from proxy.config.problems import ConfigProblems as ConfigProblems
from proxy.config.problems import Problem as Problem
from proxy.config.remarks import warnings as warnings
from proxy.config.resolve import environment as environment
from proxy.config.resolve import filled as filled
from proxy.config.resolve import passes as passes
from proxy.config.resolve import worker_count as worker_count
from proxy.config.schema import AccessLog as AccessLog
from proxy.config.schema import Address as Address
from proxy.config.schema import Admin as Admin
from proxy.config.schema import Alert as Alert
from proxy.config.schema import App as App
from proxy.config.schema import Autoheal as Autoheal
from proxy.config.schema import Certificate as Certificate
from proxy.config.schema import Config as Config
from proxy.config.schema import Ejection as Ejection
from proxy.config.schema import Gateway as Gateway
from proxy.config.schema import Health as Health
from proxy.config.schema import Keep as Keep
from proxy.config.schema import Notify as Notify
from proxy.config.schema import Process as Process
from proxy.config.schema import Scale as Scale
from proxy.config.write import shown as shown
from proxy.masking import masked as masked
