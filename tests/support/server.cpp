// SPDX-License-Identifier: Apache-2.0
#include "support/server.hpp"

#include <csignal>
#include <stdexcept>

namespace posthouse::test {

TestServer& TestServer::shared() {
  static TestServer server(testing::Server::shared());
  return server;
}

// What a process has written survives its crash in the page cache. With fsync, recovery begins with syncing, and that
// waits for all that others have written to the disk: minutes beside a build.
TestServer::TestServer(Durable /*tag*/, std::string const& settings)
    : own_(std::make_unique<testing::Server>(true, "fsync = off\n" + settings)), server_(own_.get()) {}

dev::PrivateServer& TestServer::own() const {
  if (!own_) throw std::logic_error("a test must not stop the server that other tests share: use a durable one");
  return *own_->control();
}

void TestServer::restart_immediate() {
  own().stop(dev::StopMode::immediate);
  own().start();
}

void TestServer::crash() { own().kill(); }
void TestServer::stop() { own().stop(); }
void TestServer::start() { own().start(); }

void TestServer::freeze() {
  for (auto const pid : own().processes()) ::kill(pid, SIGSTOP);
}

void TestServer::thaw() {
  for (auto const pid : own().processes()) ::kill(pid, SIGCONT);
}

int TestServer::postmaster() const { return own().status().pid; }

}  // namespace posthouse::test
