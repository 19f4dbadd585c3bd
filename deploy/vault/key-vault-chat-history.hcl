# Chat history: data keys for the workers, wrapped under a context derived from the user; contents never come here.

path "{mount}/datakey/plaintext/chat-history" {
  capabilities = ["update"]
}
path "{mount}/decrypt/chat-history" {
  capabilities = ["update"]
}

# Rotation: a new version, everything sealed anew with it, and then nothing older opens. Of the key's settings only
# that, which can be taken back: neither exporting nor deleting the key.
path "{mount}/keys/chat-history" {
  capabilities = ["read"]
}
path "{mount}/keys/chat-history/rotate" {
  capabilities = ["update"]
}
path "{mount}/rewrap/chat-history" {
  capabilities = ["update"]
}
path "{mount}/keys/chat-history/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
  }
}
