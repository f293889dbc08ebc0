#include "runtimeservice/streaming/resize_documents.h"

#include <cstdint>
#include <limits>

#include "absl/strings/ascii.h"
#include "base/json.h"
#include "base/status_macros.h"

namespace streaming {
namespace {

absl::Status Tell(std::string_view document, CommandInput& input) {
  ASSIGN_OR_RETURN(const base::Json json, base::ParseJson(document));
  ASSIGN_OR_RETURN(const int64_t width, base::JsonInt(json, "Width"));
  ASSIGN_OR_RETURN(const int64_t height, base::JsonInt(json, "Height"));
  constexpr int64_t kMost = std::numeric_limits<uint16_t>::max();
  if (width < 0 || width > kMost || height < 0 || height > kMost) {
    return absl::InvalidArgumentError("Width and Height are 16 bits each");
  }
  if (width > 0 && height > 0) {
    input.Resized(static_cast<uint16_t>(width), static_cast<uint16_t>(height));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ResizeDocuments::Take(std::string_view bytes, CommandInput& input) {
  for (const char c : bytes) {
    if (document_.empty() && absl::ascii_isspace(static_cast<unsigned char>(c))) {
      continue;
    }
    if (document_.empty() && c != '{') {
      return absl::InvalidArgumentError("resize: a JSON object is expected");
    }
    if (document_.size() == kMaxDocumentBytes) {
      return absl::ResourceExhaustedError("resize: a document is longer than 1 KiB");
    }
    document_ += c;
    if (in_text_) {
      in_text_ = escaped_ || c != '"';
      escaped_ = !escaped_ && c == '\\';
      continue;
    }
    in_text_ = c == '"';
    // No member that anybody sends holds an object.
    if (c == '}') {
      const absl::Status told = Tell(document_, input);
      document_.clear();
      RETURN_IF_ERROR(base::Annotate(told, "resize"));
    }
  }
  return absl::OkStatus();
}

}  // namespace streaming
