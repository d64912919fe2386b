"""One typed `Config` from `holdfast.toml` and the environment: the place, the kinds, the server."""

from holdfast.config.keys import KEY, SCOPES, AccessKey, Scope
from holdfast.config.kinds import FIELDS, KIND, kinds_of
from holdfast.config.loading import ENVIRONMENT, FILE, SERVER, Config, ServerConfig

__all__ = [
    "ENVIRONMENT",
    "FIELDS",
    "FILE",
    "KEY",
    "KIND",
    "SCOPES",
    "SERVER",
    "AccessKey",
    "Config",
    "Scope",
    "ServerConfig",
    "kinds_of",
]
