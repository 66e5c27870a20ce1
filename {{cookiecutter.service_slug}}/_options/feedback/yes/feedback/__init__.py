"""What users say of predictions, in a database: table, migrations, endpoint.

It knows no task: `app/main.py` hands it the contract. `docs/database.md` describes it.
"""
