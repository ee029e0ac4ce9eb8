"""The configuration: its schema, its reading from YAML, JSON and the environment, its revisions.

Only this package knows YAML and the environment. Everybody else is given a frozen `ServerConfig`.
"""

from open_autoglm.config.diff import Change, diff_configs, needs_restart
from open_autoglm.config.loading import Loaded, load_config, parse_config
from open_autoglm.config.revisions import Revision, Revisions
from open_autoglm.config.schema import AuthSettings, KeyEntry, ModelEntry, Price, ServerConfig, ServerSettings

__all__ = [
    "AuthSettings",
    "Change",
    "KeyEntry",
    "Loaded",
    "ModelEntry",
    "Price",
    "Revision",
    "Revisions",
    "ServerConfig",
    "ServerSettings",
    "diff_configs",
    "load_config",
    "needs_restart",
    "parse_config",
]
