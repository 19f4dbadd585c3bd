# What the key-vault service may do. Tokens carry this policy alone, not even `default`.

# Provider keys: sealed and opened under a context derived from user and provider.
path "transit/encrypt/provider-keys" {
  capabilities = ["update"]
}
path "transit/decrypt/provider-keys" {
  capabilities = ["update"]
}
path "transit/rewrap/provider-keys" {
  capabilities = ["update"]
}
path "transit/keys/provider-keys" {
  capabilities = ["read"]
}

# Chat history: data keys for the workers, wrapped by transit; contents never come here.
path "transit/datakey/plaintext/chat-history" {
  capabilities = ["update"]
}
path "transit/decrypt/chat-history" {
  capabilities = ["update"]
}
path "transit/rewrap/chat-history" {
  capabilities = ["update"]
}
path "transit/keys/chat-history" {
  capabilities = ["read"]
}

# Its own token.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
