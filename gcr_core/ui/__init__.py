"""The web app: `page.build` lays it out, a module per tab fills it. Only this package imports gradio."""
