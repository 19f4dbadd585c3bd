-- Gives an error the body that its service has written for it, in the words of the API that the caller speaks, in place
-- of the transcoder's. See libs/rpc/error_bodies.py.
function envoy_on_response(handle)
  local headers = handle:headers()
  local body = headers:get("x-error-body")
  if body ~= nil then
    headers:remove("x-error-body")
    -- The headers may not be used any more when the body has been waited for; they are asked for anew.
    local length = handle:body(true):setBytes(body)
    handle:headers():replace("content-length", length)
  end
end
