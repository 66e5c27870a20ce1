# The verbs of feedback; the Makefile includes this file.

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
