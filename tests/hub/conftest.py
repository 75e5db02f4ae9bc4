"""Fixtures of the remotes: a container registry, and a workspace and a Hub with one adapter."""

from tests.helpers.container_registry import container_registry as container_registry
from tests.helpers.hub_server.fixtures import demo_on_the_hub as demo_on_the_hub
from tests.helpers.hub_server.fixtures import empty_workspace as empty_workspace
from tests.helpers.hub_server.fixtures import workspace_with_demo as workspace_with_demo
