// An HTTP request in two cuts, to the choice of its protocol and the answer to it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "runtimeservice/streaming/http_request.h"
#include "runtimeservice/streaming/http_upgrade.h"

namespace {

using Progress = streaming::HttpRequestReader::Progress;

constexpr size_t kMaxHeaderBytes = 4096;
constexpr char kMore[] = "more";

// What the request leads to, as one text.
std::string Outcome(std::string_view first, std::string_view second) {
  streaming::HttpRequestReader reader(kMaxHeaderBytes);
  Progress progress = reader.Take(first);
  const bool split = progress == Progress::kMore;
  if (split) {
    progress = reader.Take(second);
  }
  if (progress == Progress::kMore) {
    return kMore;
  }
  if (progress == Progress::kRefused) {
    return streaming::RenderAnswer(reader.refusal());
  }
  const auto decided = streaming::DecideUpgrade(reader.request());
  std::string outcome;
  if (const auto* answer = std::get_if<streaming::HttpAnswer>(&decided)) {
    outcome = streaming::RenderAnswer(*answer);
  } else {
    const auto& upgrade = std::get<streaming::Upgrade>(decided);
    outcome = upgrade.token + " " + streaming::RenderSpdyUpgrade(upgrade);
  }
  return outcome + reader.TakeRest() + std::string(split ? "" : second);
}

}  // namespace

// Where the bytes are cut must not matter, but that Beast may find an error before or after it has
// the whole header.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const size_t cut = bytes.size() * data[0] / 255;
  const std::string whole = Outcome(bytes, "");
  const std::string pieces = Outcome(bytes.substr(0, cut), bytes.substr(cut));
  if (whole != pieces && whole != kMore && pieces != kMore && size < kMaxHeaderBytes) {
    abort();
  }
  return 0;
}
