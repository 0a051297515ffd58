"""Names that users give to prefixes, AS numbers, countries, interfaces and services.

Files (CSV, MMDB) become tables, and dictionaries over them, when they change; views and functions
look names up when somebody asks. Rows of traffic hold none of it.
"""
