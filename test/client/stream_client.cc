#include "test/client/stream_client.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace test {
namespace {

constexpr char kForwardProtocol[] = "portforward.k8s.io";

absl::StatusOr<std::unique_ptr<SpdyWire>> ConnectSpdy(const std::string& url,
                                                      const std::vector<std::string>& protocols,
                                                      const TlsFiles& tls, std::string* chosen) {
  HttpHeaders headers = {
      {"Connection", "Upgrade"}, {"Upgrade", "SPDY/3.1"}, {"Content-Length", "0"}};
  for (const std::string& protocol : protocols) {
    headers.emplace_back("X-Stream-Protocol-Version", protocol);
  }
  ASSIGN_OR_RETURN(HttpAnswer answer, SendUpgrade(url, "POST", headers, tls));
  RETURN_IF_ERROR(ExpectUpgraded(answer));
  *chosen = answer.Header("x-stream-protocol-version");
  return std::make_unique<SpdyWire>(std::move(answer.wire));
}

constexpr const char* kStreamNames[] = {"stdin", "stdout", "stderr", "error", "resize"};

// The channels that a client opens, in the usual order.
std::vector<Channel> Channels(const CommandOptions& options, std::string_view protocol) {
  std::vector<Channel> channels = {Channel::kError};
  if (options.in) channels.push_back(Channel::kStdin);
  if (options.out) channels.push_back(Channel::kStdout);
  if (options.err && !options.tty) channels.push_back(Channel::kStderr);
  const bool resizes = protocol.starts_with("v3.") || protocol.starts_with("v4.");
  if (options.tty && resizes) channels.push_back(Channel::kResize);
  return channels;
}

class SpdyCommand : public CommandSession {
 public:
  static absl::StatusOr<std::unique_ptr<CommandSession>> Create(const std::string& url,
                                                                const CommandOptions& options) {
    auto session = std::unique_ptr<SpdyCommand>(new SpdyCommand);
    std::vector<std::string> protocols = options.protocols;
    if (protocols.empty()) protocols = {"v4.channel.k8s.io"};
    ASSIGN_OR_RETURN(session->spdy_, ConnectSpdy(url, protocols, options.tls, &session->protocol_));
    for (const Channel channel : Channels(options, session->protocol_)) {
      ASSIGN_OR_RETURN(
          const uint32_t stream,
          session->spdy_->OpenStream({{"streamtype", kStreamNames[static_cast<int>(channel)]}}));
      session->streams_[channel] = stream;
      session->channels_[stream] = channel;
      session->waiting_.insert(stream);
      if (channel != Channel::kStdin && channel != Channel::kResize) session->open_.insert(channel);
    }
    while (!session->waiting_.empty()) {
      ASSIGN_OR_RETURN(const SpdyEvent event, session->spdy_->Next(kAnswer));
      if (event.kind == SpdyEvent::Kind::kReply) {
        session->waiting_.erase(event.stream);
      } else if (event.kind != SpdyEvent::Kind::kPing) {
        // Go's clients drop what comes before the reply.
        return absl::DataLossError("something else than the reply to a stream");
      }
    }
    return std::unique_ptr<CommandSession>(std::move(session));
  }

  absl::Status Send(Channel channel, std::string_view bytes) override {
    return spdy_->Send(streams_[channel], bytes);
  }
  absl::Status FinishInput() override {
    return spdy_->Send(streams_[Channel::kStdin], "", SpdyFin::kYes);
  }
  absl::Status Ping() override { return spdy_->SendPing(1); }
  Wire& wire() override { return spdy_->wire(); }

  absl::StatusOr<CommandEvent> Next(absl::Duration timeout) override {
    while (true) {
      if (ended_.has_value()) {
        CommandEvent event;
        event.kind = CommandEvent::Kind::kEnded;
        event.channel = *std::exchange(ended_, std::nullopt);
        return event;
      }
      ASSIGN_OR_RETURN(const SpdyEvent event, spdy_->Next(timeout));
      CommandEvent result;
      if (event.kind == SpdyEvent::Kind::kEnd || event.kind == SpdyEvent::Kind::kGoAway) {
        result.kind = open_.empty() ? CommandEvent::Kind::kGoodbye : CommandEvent::Kind::kBroken;
        done_ = true;
        return result;
      }
      if (event.kind == SpdyEvent::Kind::kPing) {
        result.kind = CommandEvent::Kind::kPing;
        return result;
      }
      const auto found = channels_.find(event.stream);
      if (found == channels_.end()) continue;
      if (event.kind == SpdyEvent::Kind::kReset || event.fin == SpdyFin::kYes) {
        if (open_.erase(found->second) > 0) ended_ = found->second;
        done_ = open_.empty();
      }
      if (event.kind != SpdyEvent::Kind::kData || event.bytes.empty()) continue;
      result.channel = found->second;
      result.bytes = event.bytes;
      return result;
    }
  }

 private:
  std::unique_ptr<SpdyWire> spdy_;
  std::map<Channel, uint32_t> streams_;
  std::map<uint32_t, Channel> channels_;
  std::set<uint32_t> waiting_;
  std::set<Channel> open_;  // Of those the server writes.
  std::optional<Channel> ended_;
};

class WebSocketCommand : public CommandSession {
 public:
  static absl::StatusOr<std::unique_ptr<CommandSession>> Create(const std::string& url,
                                                                const CommandOptions& options) {
    auto session = std::unique_ptr<WebSocketCommand>(new WebSocketCommand);
    const std::string offer =
        options.protocols.empty() ? "v5.channel.k8s.io" : absl::StrJoin(options.protocols, ", ");
    ASSIGN_OR_RETURN(session->socket_, ConnectWebSocket(url, offer, options.tls, options.masking,
                                                        &session->protocol_));
    session->base64_ = absl::StrContains(session->protocol_, "base64");
    return std::unique_ptr<CommandSession>(std::move(session));
  }

  absl::Status Send(Channel channel, std::string_view bytes) override {
    if (base64_) {
      const char digit = static_cast<char>('0' + static_cast<int>(channel));
      return socket_->Send(Opcode::kText, std::string_view(&digit, 1),
                           absl::Base64Escape(base::ToAbsl(bytes)));
    }
    const char number = static_cast<char>(channel);
    return socket_->Send(Opcode::kBinary, std::string_view(&number, 1), bytes);
  }
  absl::Status FinishInput() override {
    if (!protocol_.starts_with("v5.")) {
      return absl::FailedPreconditionError("this protocol cannot half-close");
    }
    return socket_->Send(Opcode::kBinary, std::string_view("\xff\0", 2), "");
  }
  absl::Status Ping() override { return socket_->Send(Opcode::kPing, "", "ping"); }
  Wire& wire() override { return socket_->wire(); }

  absl::StatusOr<CommandEvent> Next(absl::Duration timeout) override {
    while (true) {
      ASSIGN_OR_RETURN(const WebSocketEvent event, socket_->Next(timeout));
      CommandEvent result;
      switch (event.kind) {
        case WebSocketEvent::Kind::kClose:
          result.kind =
              event.close_code == 1000 ? CommandEvent::Kind::kGoodbye : CommandEvent::Kind::kBroken;
          done_ = true;
          return result;
        case WebSocketEvent::Kind::kEnd:
          result.kind = CommandEvent::Kind::kBroken;
          done_ = true;
          return result;
        case WebSocketEvent::Kind::kPong:
          result.kind = CommandEvent::Kind::kPing;
          return result;
        case WebSocketEvent::Kind::kData:
          break;
      }
      RETURN_IF_ERROR(base64_ ? TakeText(event, &result) : TakeBinary(event, &result));
      if (!result.bytes.empty()) return result;
    }
  }

 private:
  absl::Status TakeBinary(const WebSocketEvent& event, CommandEvent* result) {
    std::string_view bytes = event.bytes;
    if (event.begins) {
      if (bytes.empty()) return absl::DataLossError("a message without a channel");
      channel_ = static_cast<Channel>(bytes[0]);
      bytes.remove_prefix(1);
    }
    result->channel = channel_;
    result->bytes = bytes;
    return absl::OkStatus();
  }
  absl::Status TakeText(const WebSocketEvent& event, CommandEvent* result) {
    if (event.begins) text_.clear();
    text_ += event.bytes;
    if (!event.ends) return absl::OkStatus();
    if (text_.empty() || event.opcode != Opcode::kText ||
        !absl::Base64Unescape(text_.substr(1), &plain_)) {
      return absl::DataLossError("a message that is not base64");
    }
    result->channel = static_cast<Channel>(text_[0] - '0');
    result->bytes = plain_;
    return absl::OkStatus();
  }

  std::unique_ptr<WebSocketWire> socket_;
  bool base64_ = false;
  Channel channel_ = Channel::kStdout;
  std::string text_;
  std::string plain_;
};

}  // namespace

int CommandOutcome::exit_code() const {
  const auto document = base::ParseJson(status);
  if (!document.ok()) return -1;
  if (base::JsonString(*document, "status").value_or("") == "Success") return 0;
  if (base::JsonString(*document, "reason").value_or("") != "NonZeroExitCode") return -1;
  for (const base::Json& cause :
       base::JsonMember(base::JsonMember(*document, "details"), "causes")) {
    int code = -1;
    if (base::JsonString(cause, "reason").value_or("") == "ExitCode" &&
        absl::SimpleAtoi(base::JsonString(cause, "message").value_or(""), &code)) {
      return code;
    }
  }
  return -1;
}

absl::StatusOr<std::unique_ptr<CommandSession>> CommandSession::Open(
    const std::string& url, const CommandOptions& options) {
  return options.transport == Transport::kSpdy ? SpdyCommand::Create(url, options)
                                               : WebSocketCommand::Create(url, options);
}

absl::Status CommandSession::Resize(unsigned width, unsigned height) {
  return Send(Channel::kResize, base::StrCat("{\"Width\":", width, ",\"Height\":", height, "}\n"));
}

absl::StatusOr<CommandOutcome> CommandSession::ReadAll(absl::Duration timeout) {
  CommandOutcome outcome;
  outcome.out = std::move(seen_);
  while (!done_) {
    ASSIGN_OR_RETURN(const CommandEvent event, Next(timeout));
    outcome.complete = done_ && event.kind != CommandEvent::Kind::kBroken;
    if (event.kind != CommandEvent::Kind::kData) continue;
    switch (event.channel) {
      case Channel::kStdout:
        outcome.out += event.bytes;
        break;
      case Channel::kStderr:
        outcome.err += event.bytes;
        break;
      case Channel::kError:
        outcome.status += event.bytes;
        break;
      default:
        return absl::DataLossError("bytes on a channel that only clients write");
    }
  }
  return outcome;
}

absl::StatusOr<std::string> CommandSession::ReadUntil(std::string_view text,
                                                      absl::Duration timeout) {
  size_t from = 0;
  while (seen_.find(text, from) == seen_.npos) {
    from = seen_.size() - std::min(seen_.size(), text.size());
    ASSIGN_OR_RETURN(const CommandEvent event, Next(timeout));
    if (event.kind == CommandEvent::Kind::kData && event.channel == Channel::kStdout) {
      seen_ += event.bytes;
    }
    if (done_ && event.kind != CommandEvent::Kind::kData) {
      return absl::UnavailableError("the session ended; output so far: " + seen_.substr(0, 1000));
    }
  }
  return seen_;
}

absl::StatusOr<std::unique_ptr<ForwardSession>> ForwardSession::Open(const std::string& url,
                                                                     ForwardTransport transport,
                                                                     const TlsFiles& tls,
                                                                     Masking masking) {
  std::string chosen;
  std::unique_ptr<SpdyWire> spdy;
  if (transport == ForwardTransport::kSpdy) {
    ASSIGN_OR_RETURN(spdy, ConnectSpdy(url, {kForwardProtocol}, tls, &chosen));
  } else {
    const std::string tunnel = base::StrCat("SPDY/3.1+", kForwardProtocol);
    ASSIGN_OR_RETURN(auto socket, ConnectWebSocket(url, tunnel, tls, masking, &chosen));
    if (chosen != tunnel) return absl::DataLossError("the tunnel's protocol was not chosen");
    spdy = std::make_unique<SpdyWire>(TunnelWire(std::move(socket)));
  }
  return std::unique_ptr<ForwardSession>(new ForwardSession(std::move(spdy)));
}

// A connection's error stream has number 4n + 1, its data stream 4n + 3.
absl::StatusOr<size_t> ForwardSession::Connect(uint16_t port) {
  const size_t connection = opened_++;
  SpdyHeaders headers = {{"streamtype", "error"},
                         {"port", base::StrCat(port)},
                         {"requestid", base::StrCat(connection)}};
  // As Go's client, which never writes there.
  ASSIGN_OR_RETURN(const uint32_t error, spdy_->OpenStream(headers));
  RETURN_IF_ERROR(spdy_->Send(error, "", SpdyFin::kYes));
  headers["streamtype"] = "data";
  RETURN_IF_ERROR(spdy_->OpenStream(headers).status());
  return connection;
}

absl::Status ForwardSession::Send(size_t connection, std::string_view bytes) {
  return spdy_->Send(static_cast<uint32_t>(4 * connection + 3), bytes);
}

absl::Status ForwardSession::Finish(size_t connection) {
  return spdy_->Send(static_cast<uint32_t>(4 * connection + 3), "", SpdyFin::kYes);
}

absl::Status ForwardSession::Reset(size_t connection) {
  constexpr uint32_t kCancel = 5;
  return spdy_->SendReset(static_cast<uint32_t>(4 * connection + 3), kCancel);
}

absl::StatusOr<ForwardEvent> ForwardSession::Next(absl::Duration timeout) {
  while (true) {
    ForwardEvent result;
    if (ended_.has_value()) {
      result.kind = ForwardEvent::Kind::kEnded;
      result.connection = *std::exchange(ended_, std::nullopt);
      return result;
    }
    ASSIGN_OR_RETURN(const SpdyEvent event, spdy_->Next(timeout));
    result.connection = event.stream / 4;
    result.bytes = event.bytes;
    const bool error_stream = event.stream % 4 == 1;
    switch (event.kind) {
      case SpdyEvent::Kind::kEnd:
      case SpdyEvent::Kind::kGoAway:
        result.kind = ForwardEvent::Kind::kClosed;
        return result;
      case SpdyEvent::Kind::kPing:
        result.kind = ForwardEvent::Kind::kPing;
        return result;
      case SpdyEvent::Kind::kReset:
        if (error_stream) continue;
        result.kind = ForwardEvent::Kind::kReset;
        return result;
      case SpdyEvent::Kind::kData:
        if (error_stream) result.kind = ForwardEvent::Kind::kError;
        if (!error_stream && event.fin == SpdyFin::kYes) ended_ = result.connection;
        if (event.bytes.empty()) continue;
        return result;
      default:
        continue;
    }
  }
}

}  // namespace test
