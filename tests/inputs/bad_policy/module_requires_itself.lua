return require("module_requires_itself")
