"""The native core: C11 headers and the binding over them. It imports nothing of the package."""
