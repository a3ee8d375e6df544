"""The import path of existing users, ``callbacks.enhanced_inference_callback``. Nothing else lives here."""
