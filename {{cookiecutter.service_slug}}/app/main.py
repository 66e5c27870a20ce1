"""Assemble the service: model, endpoints, middleware and API keys."""

from app import api, auth
from app.contract import MAX_INSTANCES, Instance, LabelledInstance
from app.settings import Settings
from serving import inference
from serving.build import Application, build_app
from serving.model import Model
from serving.service import Service


def create_app(settings: Settings) -> Application:
    """Build the application from its settings. Raises SettingsError.

    Pass your own routers and middleware to `build_app`.
    """
    service = Service(settings, lambda: Model.load(settings.model_dir, Instance))
    routers = [
        api.router(service, settings),
        inference.router(service, Instance, MAX_INSTANCES, settings.log_texts),
    ]
    app = build_app(service, routers)
    app.add_option("feedback", Instance, LabelledInstance)
    auth.guard(app, auth.read_keys(settings.api_keys.get_secret_value()))
    return app
