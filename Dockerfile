# Two ways to the same image:
#
#   docker build -t quorate .                                                    from the sources, with crates.io
#   docker build -t quorate --target prebuilt --build-arg BINARY=target/release/quorate .
#                                                                                from a binary for this Debian
FROM debian:bookworm-slim AS runtime
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /data quorate \
    && install -d -o quorate -g quorate /data
USER quorate
# A container that listens on loopback can be reached by nobody.
ENV QUORATE_DATA=/data \
    QUORATE_LISTEN=0.0.0.0:7001 \
    QUORATE_PEER=0.0.0.0:7101 \
    QUORATE_HTTP=0.0.0.0:7201
EXPOSE 7001 7101 7201
VOLUME /data
# Ready: it knows a leader for every slot. The image has no HTTP client, and bash is one that will do.
HEALTHCHECK --interval=2s --timeout=2s --start-period=30s --retries=5 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7201 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.[01] 200' <&3"]
ENTRYPOINT ["quorate"]
CMD ["serve"]

FROM runtime AS prebuilt
ARG BINARY=target/release/quorate
COPY ${BINARY} /usr/local/bin/quorate

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p quorate

FROM runtime
COPY --from=build /src/target/release/quorate /usr/local/bin/quorate
