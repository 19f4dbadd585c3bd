"""The jobs of docker-compose.yml."""
