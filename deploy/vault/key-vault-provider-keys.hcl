# Provider keys: sealed and opened under a context derived from user and provider.

path "{mount}/encrypt/provider-keys" {
  capabilities = ["update"]
}
path "{mount}/decrypt/provider-keys" {
  capabilities = ["update"]
}

# Rotation: a new version, everything sealed anew with it, and then nothing older opens. Of the key's settings only
# that, which can be taken back: neither exporting nor deleting the key.
path "{mount}/keys/provider-keys" {
  capabilities = ["read"]
}
path "{mount}/keys/provider-keys/rotate" {
  capabilities = ["update"]
}
path "{mount}/rewrap/provider-keys" {
  capabilities = ["update"]
}
path "{mount}/keys/provider-keys/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
  }
}
