#include "runtimeservice/streaming/runner.h"

#include <csignal>

#include "runtimeservice/streaming/exec_session.h"
#include "runtimeservice/streaming/forward_session.h"

namespace streaming {

Runner::Runner(asio::io_context& loop) : loop_(loop) { std::signal(SIGPIPE, SIG_IGN); }

Task<> Runner::RunExec(const stream::ExecSession& session, CommandClient& client) {
  ExecSession exec(loop_, session, client);
  co_await exec.Run();
}

Task<> Runner::RunAttach(const stream::AttachSession& session, CommandClient& client) {
  const CommandStreams streams = {.stdin_wanted = session.stdin(),
                                  .stdout_wanted = session.stdout(),
                                  .stderr_wanted = session.stderr(),
                                  .tty = session.tty()};
  const absl::Status opened = co_await client.Open(streams);
  if (opened.ok()) {
    CommandResult result;
    result.status = absl::UnimplementedError("attach");
    co_await client.Finish(result);
  }
  client.Abort();
}

Task<> Runner::RunPortForward(const stream::PortForwardSession& session, ForwardClient& client) {
  ForwardSession forward(loop_, session, client);
  co_await forward.Run();
}

}  // namespace streaming
