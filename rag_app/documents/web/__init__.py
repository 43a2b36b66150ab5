"""Pages of the web, kept as files in a folder, which are then read as any other (extra ``web``).

Read `mirror.py` first, which keeps them; `client.py` asks servers, and is the only one that does.
"""
