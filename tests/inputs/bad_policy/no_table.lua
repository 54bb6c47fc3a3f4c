local function on_request() end
