# syntax=docker/dockerfile:1

# Build. Cache mounts keep the registry and compiled dependencies, so the binary is copied out of them.
FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin sendoff \
    && cp target/release/sendoff /sendoff

# Run. Only the binary, the CA certificates and an unprivileged user.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin sendoff \
    && install -d -o sendoff -g sendoff -m 0750 /data
COPY --from=build /sendoff /usr/local/bin/sendoff
USER 10001:10001
WORKDIR /data

# With SQLite, /data holds the database and the two keys created at the first start. Back up all of it.
VOLUME /data
ENV SENDOFF_LISTEN=0.0.0.0:8071 \
    SENDOFF_DATABASE_URL=sqlite:/data/sendoff.db
EXPOSE 8071

# SIGTERM drains. Allow more than SENDOFF_DRAIN (30 s) before the kill: `docker stop -t 45`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8071 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ code _ <&3 && [[ $code == 20? ]]"]

ENTRYPOINT ["sendoff"]
CMD ["serve"]
