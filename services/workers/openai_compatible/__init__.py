"""Worker for any provider with the API of OpenAI, such as a vLLM server: a row of the catalogue says which."""
