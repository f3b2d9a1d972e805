"""Worlds for the engine; gateways for whole programs."""

from tests.e2e.conftest import folder as folder
from tests.e2e.conftest import gateway as gateway
from tests.e2e.conftest import module_folder as module_folder
from tests.incidents.virtual import world as world
