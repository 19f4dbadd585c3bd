"""What is known of models: how long, how dear, what they can do, and by which names chats may ask for them.

The facts are published ones (the package genai-prices), completed by a reviewed file, and overridden by a file of the
administrators. docs/models.md tells what a row may say.
"""

from libs.model_catalog.catalog import ModelCatalog
from libs.model_catalog.facts import CAPABILITIES, ModelFacts

__all__ = ["CAPABILITIES", "ModelCatalog", "ModelFacts"]
