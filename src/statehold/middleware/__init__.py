"""Drivers that wrap a driver.

wrapper      `Wrapper`: passes everything on; whoever wraps changes what it needs
calls        calls that commit, passed down together: what goes into a batch, and what becomes of each
coalesce     `Coalesce`: those of an event loop's tasks
following    `Following`: those of threads
metrics      `Metrics`: counts of what is asked and answered
bridge       drivers whose calls are made elsewhere: in an event loop of another thread
choosing     middleware by name, as a URL or a configuration asks for it
"""
