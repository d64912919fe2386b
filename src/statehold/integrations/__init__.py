"""Tokens in web frameworks: one module for each, and nothing else imports them.

carriers     where requests bring tokens and responses take them: cookie, header, JSON body
starlette    around the handlers of a Starlette application
fastapi      as FastAPI dependencies
"""
