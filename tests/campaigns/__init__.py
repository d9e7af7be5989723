"""Long trials of what users, machines and strangers may do, beside the tests.

Each module tries one kind of harm, prints what came of it, and ends with status 1 if
there was a fault. From the folder ``tests``::

    python -m campaigns.tables 5000
    python -m campaigns.folders 10000 2000
    python -m campaigns.kills 200
    python -m campaigns.sharing 20
    python -m campaigns.long_run 200 1000000
    python -m campaigns.dependencies lowest

The tests run each with a small budget. ``docs/reliability.md`` tells what was found.
"""
