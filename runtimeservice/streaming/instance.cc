#include "runtimeservice/streaming/instance.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/protocol.h"

namespace streaming {
namespace {

constexpr absl::Duration kLongest = absl::Hours(1);  // Between two looks.
// How often what ended sessions needed goes back while others are open. Without it 130 MiB stayed
// when hundreds had ended and one went on.
constexpr absl::Duration kTrimPause = absl::Minutes(1);

}  // namespace

absl::StatusOr<std::unique_ptr<Instance>> Instance::Start(asio::io_context& loop,
                                                          const stream::Settings& settings,
                                                          Server::Serve serve, Tokens& tokens,
                                                          Activity& activity) {
  if (settings.port() > UINT16_MAX) {
    return absl::InvalidArgumentError(
        base::StrCat("crisp.api.stream_port: ", settings.port(), " is no port"));
  }
  std::unique_ptr<Instance> instance(new Instance(loop, settings, tokens, activity));
  const ServerConfig config{.address = settings.address(),
                            .port = static_cast<uint16_t>(settings.port()),
                            .tls = settings.tls(),
                            .max_sessions = settings.max_sessions()};
  ASSIGN_OR_RETURN(instance->server_, Server::Listen(loop, config, std::move(serve), activity));
  const auto answer = [instance = instance.get()](stream::Request request) {
    return instance->Answer(std::move(request));
  };
  ASSIGN_OR_RETURN(
      instance->control_,
      ControlServer::Listen(loop, settings.directory() + kControlSocket, answer, activity));
  return instance;
}

Task<> Instance::Run() {
  bool was_busy = true;
  base::SteadyTime idle_since = base::SteadyTime::Now();
  base::SteadyTime trimmed = idle_since;
  for (;;) {
    const base::SteadyTime now = base::SteadyTime::Now();
    const bool has_urls = tokens_.size() > 0;
    absl::Duration wait = kLongest;
    if (activity_.any() || has_urls) {
      was_busy = true;
      wait = has_urls ? std::min(kTrimPause, tokens_.NextEnd() - now) : kTrimPause;
      if (now - trimmed >= kTrimPause) {
        trimmed = now;
        malloc_trim(0);
      }
    } else {
      if (std::exchange(was_busy, false)) {
        idle_since = now;
        malloc_trim(0);  // What the sessions needed.
      }
      const bool at_once = retired_ || end_soon_;
      const absl::Duration linger =
          at_once ? absl::ZeroDuration() : absl::Seconds(settings_.linger_seconds());
      if (now - idle_since >= linger) {
        break;
      }
      wait = std::min(wait, linger - (now - idle_since));
    }
    // What begins and ends before this coroutine has its turn was too short to count.
    co_await activity_.changed().WaitFor(wait);
  }
  // From the last look to here nothing else ran: no request was read that is not answered.
  retired_ = true;
  control_->Close();
  server_->Close();
}

void Instance::EndSoon() {
  end_soon_ = true;
  activity_.changed().Notify();
}

void Instance::Retire() {
  retired_ = true;
  server_->Close();
  tokens_.Clear();
  activity_.changed().Notify();
}

absl::StatusOr<std::string> Instance::Open(stream::Session session) {
  if (retired_) {
    return absl::UnavailableError("this streaming server is retired");
  }
  end_soon_ = false;
  ASSIGN_OR_RETURN(const std::string path, tokens_.Add(std::move(session)));
  return server_->Url(path);
}

stream::Reply Instance::Answer(stream::Request request) {
  stream::Reply reply;
  absl::Status status;
  switch (request.kind_case()) {
    case stream::Request::kIdentify:
      reply.set_fingerprint(settings_.fingerprint());
      reply.set_pid(getpid());
      reply.set_port(server_->port());
      reply.set_sessions(static_cast<uint32_t>(server_->sessions()));
      break;
    case stream::Request::kOpen: {
      absl::StatusOr<std::string> url = Open(std::move(*request.mutable_open()));
      if (url.ok()) {
        reply.set_url(*std::move(url));
      }
      status = url.status();
      break;
    }
    case stream::Request::kRetire:
      Retire();
      break;
    case stream::Request::KIND_NOT_SET:
      status = absl::UnimplementedError("a request that this crisp-stream does not know");
      break;
  }
  reply.set_code(static_cast<uint32_t>(status.code()));
  reply.set_message(std::string(status.message()));
  reply.set_retired(retired_);
  return reply;
}

}  // namespace streaming
