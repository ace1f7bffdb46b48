"""The server of `subpixel serve`: a page in the browser, and an API for programs (docs/web-api.md).

`app` puts the parts together. `guard` checks every request, `routes_*` answer it, and `bodies` writes bodies
to disk. `jobs` and `store` keep jobs, and `queue` hands them to the child processes of `processes`. A child
process runs `worker`, which does `tasks`.
"""
