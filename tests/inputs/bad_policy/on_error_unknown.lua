return { on_error = "reject", on_idle = function() end }
