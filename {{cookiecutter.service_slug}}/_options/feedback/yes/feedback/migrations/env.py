"""Alembic's entry: migrations run on the connection that feedback/database.py gives."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection

from feedback.tables import Base, Moment


def render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Write plain types into migrations: they must not change with the code."""
    is_moment = kind == "type" and isinstance(item, Moment)
    return "sa.DateTime(timezone=True)" if is_moment else False


def run(connection: Connection) -> None:
    """Run the migrations that a command asks for."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        render_item=render,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
