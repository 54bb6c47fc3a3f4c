local names = require("lib.names")
return {}
