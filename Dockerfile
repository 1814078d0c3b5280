# SPDX-License-Identifier: Apache-2.0
# The program posthouse as an image: `docker build -t posthouse .`, then
#   docker run -v ./broker.yaml:/etc/posthouse/broker.yaml:ro posthouse
# Any other command: docker run posthouse status --database-url postgresql://…
FROM debian:12 AS build
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      g++ cmake ninja-build pkg-config python3 ca-certificates libpq-dev libboost1.81-dev libboost-json1.81-dev \
      libcli11-dev libyaml-cpp-dev libfmt-dev libssl-dev libhowardhinnant-date-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cmake -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr \
      -DPOSTHOUSE_TESTS=OFF -DPOSTHOUSE_EXAMPLES=OFF -DPOSTHOUSE_WERROR=OFF \
    && cmake --build /build --target posthouse_cli \
    && DESTDIR=/out cmake --install /build --component program --strip

FROM debian:12-slim
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates libpq5 libboost-json1.81.0 libyaml-cpp0.7 libfmt9 libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/posthouse --create-home --shell /usr/sbin/nologin posthouse
COPY --from=build /out/usr /usr
USER posthouse
WORKDIR /var/lib/posthouse
# SIGTERM drains: give it longer than stop_grace (docker stop --time 45).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/posthouse"]
CMD ["start", "--config", "/etc/posthouse/broker.yaml"]
