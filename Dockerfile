# docker build -t triage-proxy .
#
# An app goes in it (FROM triage-proxy) or beside it: docs/deploying.md shows both.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN python -m venv /opt/triage \
 && /opt/triage/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:${PYTHON}-slim
COPY --from=build /opt/triage /opt/triage
# The app keeps a Python of its own: of Triage only the command is in PATH.
RUN ln -s /opt/triage/bin/triage /usr/local/bin/triage \
 && useradd --system --uid 999 --user-group --create-home --home-dir /var/lib/triage triage \
 && install -d -o triage -g triage /run/triage /etc/triage /app
WORKDIR /app
USER triage
EXPOSE 8080 9900
# Asks the gateway, not the app: an app that is down is for Triage to mend, not a reason to restart Triage.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["/opt/triage/bin/python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9900, timeout=2); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
# Exec form, no shell and no init between: the launcher is PID 1, reaps every process, and gets the signals itself.
ENTRYPOINT ["triage"]
CMD ["serve", "-c", "/etc/triage/config.toml"]
