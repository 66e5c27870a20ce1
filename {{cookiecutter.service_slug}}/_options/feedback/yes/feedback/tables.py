"""The tables. docs/database.md follows from this file: `make docs`.

The `doc` of each column says what it holds, and whether an index has it and why; an
index gives its reason, and `RECORDS` says what becomes of the rows of each table. Two
rules in docs/rules.md check it.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MAX_NAME = 64
MAX_LABEL = 256
MAX_ACTOR = 128
MAX_COMMENT = 2_000


class Moment(TypeDecorator[datetime]):
    """A moment in UTC; SQLite stores none with a time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Convert what is stored to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Give what is read its time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value


class Base(DeclarativeBase):
    """The base of the tables. Every constraint has a name that migrations can use."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {datetime: Moment}


class Records(NamedTuple):
    """What becomes of the rows of a table."""

    deletes: str
    updates: str
    growth: str
    retention: str


class Feedback(Base):
    """What a client says of one prediction."""

    __tablename__ = "feedback"
    __table_args__ = (
        Index(
            "ix_feedback_received_at",
            "received_at",
            info={
                "reason": "Deletion by age filters by it; the list of what waits for "
                "a review is sorted by it."
            },
        ),
    )

    tenant: Mapped[str] = mapped_column(
        String(MAX_NAME),
        primary_key=True,
        doc="Name of the API key, from authentication; empty where keys are off. "
        "Index: yes, because it begins the primary key, by which the rows "
        "of a tenant are found.",
    )
    id: Mapped[UUID] = mapped_column(
        primary_key=True,
        doc="Made by the client, so that a repeated request stores nothing twice. "
        "Index: yes, because the primary key of tenant and id recognises it.",
    )
    digest: Mapped[str] = mapped_column(
        String(64),
        doc="SHA-256 of what is stored, which tells a repetition from another item "
        "of the same id. Index: no, because it is read by id only.",
    )
    prediction_id: Mapped[str] = mapped_column(
        String(MAX_NAME),
        doc="Id that the service gave the prediction. Index: no, because nothing "
        "looks for it; the log has it, too.",
    )
    instance: Mapped[Any | None] = mapped_column(
        JSON(none_as_null=True),
        doc="What was predicted for; null with FEEDBACK_INSTANCES=off. Index: no, "
        "because it is read with its row only.",
    )
    contract_version: Mapped[str] = mapped_column(
        String(12),
        doc="Version of the contract that the instance fitted. Index: no, because "
        "the export tests every row against today's contract.",
    )
    model_version: Mapped[str] = mapped_column(
        String(MAX_NAME),
        doc="Version of the model that predicted. Index: no, because reports read "
        "all rows.",
    )
    predicted_label: Mapped[str | None] = mapped_column(
        String(MAX_LABEL),
        doc="Label that was predicted, if one was. Index: no, because nothing "
        "looks for it.",
    )
    predicted_value: Mapped[float | None] = mapped_column(
        doc="Number that was predicted, of a regression. Index: no, because nothing "
        "looks for it.",
    )
    score: Mapped[float | None] = mapped_column(
        doc="Score of the predicted label. Index: no, because the items that wait for "
        "a review are sorted in memory.",
    )
    label: Mapped[str | None] = mapped_column(
        String(MAX_LABEL),
        doc="True label, as the client says. Index: no, because nothing looks for it.",
    )
    value: Mapped[float | None] = mapped_column(
        doc="True number, of a regression. Index: no, because nothing looks for it.",
    )
    correct: Mapped[bool | None] = mapped_column(
        doc="The client's opinion where it gives no truth. Index: no, because nothing "
        "looks for it.",
    )
    comment: Mapped[str | None] = mapped_column(
        String(MAX_COMMENT),
        doc="The client's words. Index: no, because people read them.",
    )
    source: Mapped[str | None] = mapped_column(
        String(MAX_NAME),
        doc="Program that sent it. Index: no, because nothing looks for it.",
    )
    actor: Mapped[str | None] = mapped_column(
        String(MAX_ACTOR),
        doc="Who said it, as the client names people. Index: no, because nothing "
        "looks for it.",
    )
    occurred_at: Mapped[datetime] = mapped_column(
        doc="When it was said, by the client's clock. Index: no, because deletion "
        "by age goes by received_at.",
    )
    received_at: Mapped[datetime] = mapped_column(
        doc="When it was stored. Index: yes, because deletion by age filters by it, "
        "and the list of what waits for a review is sorted by it.",
    )


class Review(Base):
    """What a person of the team decided on an item of feedback."""

    __tablename__ = "review"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "feedback_id"],
            ["feedback.tenant", "feedback.id"],
            ondelete="CASCADE",
        ),
        CheckConstraint(
            "decision IN ('accepted', 'rejected', 'relabelled')", name="decision"
        ),
        Index(
            "ix_review_tenant_feedback_id",
            "tenant",
            "feedback_id",
            info={
                "reason": "It finds the reviews of an item: to read the latest, and "
                "to delete them with their feedback."
            },
        ),
    )

    id: Mapped[int] = mapped_column(
        primary_key=True,
        doc="Number in the order of decisions. Index: yes, because it is the "
        "primary key, by which the latest is found.",
    )
    tenant: Mapped[str] = mapped_column(
        String(MAX_NAME),
        doc="Tenant of the feedback. Index: yes, because the reviews of an item are "
        "found by tenant and feedback_id.",
    )
    feedback_id: Mapped[UUID] = mapped_column(
        doc="Id of the feedback. Index: yes, because the reviews of an item are found "
        "by tenant and feedback_id.",
    )
    decision: Mapped[str] = mapped_column(
        String(10),
        doc="What was decided, in a word. Index: no, because it is read with its row "
        "only.",
    )
    label: Mapped[str | None] = mapped_column(
        String(MAX_LABEL),
        doc="True label, if relabelled. Index: no, because it is read with its row "
        "only.",
    )
    value: Mapped[float | None] = mapped_column(
        doc="True number, if relabelled. Index: no, because it is read with its row "
        "only.",
    )
    reviewer: Mapped[str] = mapped_column(
        String(MAX_ACTOR),
        doc="Who decided. Index: no, because nothing looks for it.",
    )
    reviewed_at: Mapped[datetime] = mapped_column(
        doc="When it was decided. Index: no, because it is read with its row only.",
    )


RECORDS = {
    "feedback": Records(
        deletes="Rarely: by tenant or by age, with `make forget`.",
        updates="Never: a row is what a client said.",
        growth="One row an item of POST /v1/feedback: about 1 KB, and the instance.",
        retention="Until `make forget` deletes it.",
    ),
    "review": Records(
        deletes="Rarely: with its feedback.",
        updates="Never: another decision is another row.",
        growth="One row a decision of `make review`: about 200 bytes.",
        retention="As long as its feedback.",
    ),
}
