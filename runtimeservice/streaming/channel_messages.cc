#include "runtimeservice/streaming/channel_messages.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "base/strings.h"

namespace streaming {
namespace {

// A multiple of 3, so that base64 needs no padding but at the end.
constexpr size_t kMessageBytes = 3 * (16 << 10);

}  // namespace

WebSocketConnection::Messages MessagesOf(std::string_view protocol) {
  return absl::StrContains(base::ToAbsl(protocol), "base64.")
             ? WebSocketConnection::Messages::kText
             : WebSocketConnection::Messages::kBinary;
}

Task<absl::StatusOr<ChannelMessages::Data>> ChannelMessages::Read() {
  while (true) {
    const absl::StatusOr<WebSocketConnection::Part> part = co_await connection_->Read();
    if (!part.ok()) {
      co_return part.status();
    }
    if (part->closed) {
      co_return absl::CancelledError("the client closed the WebSocket");
    }
    std::string_view bytes = part->bytes;
    if (part->first) {
      channel_.reset();
      undecoded_.clear();
      padded_ = false;
    }
    const bool first = !channel_.has_value() && !bytes.empty();
    if (first) {
      const char name = bytes.front();
      bytes.remove_prefix(1);
      if (base64_ && (name < '0' || name > '9')) {
        co_return absl::InvalidArgumentError("WebSocket: the first character names no channel");
      }
      channel_ = static_cast<uint8_t>(base64_ ? name - '0' : name);
    }
    if (!channel_.has_value()) {
      continue;  // Nothing in it yet, or nothing at all.
    }
    if (base64_) {
      const absl::StatusOr<std::string_view> decoded = Decode(bytes, part->last);
      if (!decoded.ok()) {
        co_return decoded.status();
      }
      bytes = *decoded;
    }
    if (first || !bytes.empty()) {
      co_return Data{.channel = *channel_, .first = first, .bytes = bytes};
    }
  }
}

absl::StatusOr<std::string_view> ChannelMessages::Decode(std::string_view text, bool last) {
  // Line ends are left out, as the Go servers do; absl would take any white space anywhere.
  std::copy_if(text.begin(), text.end(), std::back_inserter(undecoded_),
               [](char c) { return c != '\r' && c != '\n'; });
  const size_t whole = undecoded_.size() / 4 * 4;
  const std::string_view groups(undecoded_.data(), whole);
  const bool bad = groups.find_first_of(" \t\v\f") != groups.npos ||
                   (padded_ && !undecoded_.empty()) || (last && whole != undecoded_.size()) ||
                   !absl::Base64Unescape(base::ToAbsl(groups), &decoded_);
  if (bad) {
    return absl::InvalidArgumentError("WebSocket: a message is not base64");
  }
  padded_ = padded_ || groups.ends_with('=');
  undecoded_.erase(0, whole);
  return decoded_;
}

Task<absl::Status> ChannelMessages::Write(uint8_t channel, std::string_view bytes) {
  const char name = static_cast<char>(base64_ ? '0' + channel : channel);
  do {
    const std::string_view data = bytes.substr(0, kMessageBytes);
    bytes.remove_prefix(data.size());
    const std::string encoded = base64_ ? absl::Base64Escape(base::ToAbsl(data)) : std::string();
    const std::array<std::string_view, 2> pieces = {std::string_view(&name, 1),
                                                    base64_ ? std::string_view(encoded) : data};
    absl::Status written = co_await connection_->Write(pieces);
    if (!written.ok()) {
      co_return written;
    }
  } while (!bytes.empty());
  co_return absl::OkStatus();
}

}  // namespace streaming
