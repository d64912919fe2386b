"""States on Redis or Valkey."""

from holdfast.drivers.redis.driver import SETTINGS, RedisDriver, from_url

__all__ = ["SETTINGS", "RedisDriver", "from_url"]
