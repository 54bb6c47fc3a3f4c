return { models = { 'claude-*' }, on_request = function() end }
