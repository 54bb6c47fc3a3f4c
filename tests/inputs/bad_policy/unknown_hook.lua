return { on_requests = function() end }
