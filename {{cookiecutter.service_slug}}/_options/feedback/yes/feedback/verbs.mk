# The verbs of feedback; the Makefile includes this file.

API_TESTS += $(addprefix tests/feedback/test_feedback.py::test_, \
  the_same_again_is_stored_once_and_answered_200 \
  the_same_id_with_another_body_is_409_and_nothing_is_stored)
$(EXCHANGES): $(wildcard feedback/*.py tests/feedback/*.py)

.PHONY: migrate
migrate: $(READY) ## Bring the database of DATABASE_URL up to date
	@python -m feedback migrate

.PHONY: migration
migration: $(READY) ## Write a migration for changed tables: make migration NAME='add reason'
	@python -m feedback migrate
	@python -m feedback revise '$(NAME)'
	@black --quiet feedback/migrations && isort --quiet feedback/migrations

.PHONY: forget
forget: $(READY) ## Delete feedback: make forget TENANT=acme, or make forget DAYS=365
	@python -m feedback forget $(if $(TENANT),--tenant '$(TENANT)') $(if $(DAYS),--days '$(DAYS)')

.PHONY: review
review: $(READY) ## Decide what of the feedback is true; OUT=file.csv, IN=file.csv: by file
	@python -m training.review $(if $(OUT),--out '$(OUT)') $(if $(IN),--in '$(IN)')

.PHONY: feedback
feedback: $(READY) ## Export what was accepted for training: data/source/feedback.parquet, with DVC
	@python -m training.feedback export
	@[ ! -e data/source/feedback.parquet ] || dvc add --quiet data/source/feedback.parquet
	@python -m training.feedback tenants

test-alerts: test-feedback-alerts
.PHONY: test-feedback-alerts
test-feedback-alerts:
	promtool check rules monitoring/feedback/alerts.yaml
	promtool test rules monitoring/feedback/alerts_test.yaml
