return { models = 'auto', on_request = function() end }
