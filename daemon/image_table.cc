#include "daemon/image_table.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/json.h"
#include "base/strings.h"

namespace crispd {
namespace {

constexpr size_t kShortId = 13;
constexpr char kNone[] = "<none>";

using Row = std::array<std::string, 5>;  // Repository, tag, digest, id, size.

std::vector<Row> RowsOf(const cri::Image& image) {
  const auto split = [](const std::string& name, char mark) {
    const size_t at = name.rfind(mark);
    return std::pair(name.substr(0, at), name.substr(at + 1));
  };
  const auto digest_of = [&](const std::string& repository) {
    for (const std::string& digest : image.repo_digests()) {
      if (const auto [name, value] = split(digest, '@'); name == repository) return value;
    }
    return std::string(kNone);
  };
  const std::string id = ShortId(image.id());
  const std::string size = SizeText(image.size());
  std::vector<Row> rows;
  for (const std::string& tag : image.repo_tags()) {
    const auto [repository, name] = split(tag, ':');
    rows.push_back({repository, name, digest_of(repository), id, size});
  }
  for (const std::string& digest : image.repo_digests()) {
    if (image.repo_tags().empty()) {
      const auto [repository, value] = split(digest, '@');
      rows.push_back({repository, kNone, value, id, size});
    }
  }
  if (rows.empty()) {
    rows.push_back({kNone, kNone, kNone, id, size});
  }
  return rows;
}

}  // namespace

std::string ShortId(const std::string& id) { return id.substr(0, kShortId); }

std::string SizeText(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.3g%s", value, kUnits[unit]);
}

std::string ImageTable(const cri::ListImagesResponse& images, Digests digests) {
  std::vector<Row> rows;
  for (const cri::Image& image : images.images()) {
    for (Row& row : RowsOf(image)) rows.push_back(std::move(row));
  }
  std::ranges::sort(rows, [](const Row& a, const Row& b) {
    return std::pair(a[0] == kNone, a) < std::pair(b[0] == kNone, b);
  });
  rows.insert(rows.begin(), {"IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE"});
  std::array<size_t, 5> widths = {};
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      if (i == 2 && digests == Digests::kHide) continue;
      text += absl::StrFormat("%-*s   ", static_cast<int>(widths[i]), row[i]);
    }
    text += base::StrCat(row.back(), "\n");
  }
  return text;
}

std::string ImageIds(const cri::ListImagesResponse& images) {
  std::string text;
  for (const cri::Image& image : images.images()) text += base::StrCat(image.id(), "\n");
  return text;
}

std::string ImagesJson(const cri::ListImagesResponse& images) {
  base::OrderedJson list = base::OrderedJson::array();
  for (const cri::Image& image : images.images()) {
    base::OrderedJson entry;
    entry["id"] = image.id();
    entry["repoTags"] =
        std::vector<std::string>(image.repo_tags().begin(), image.repo_tags().end());
    entry["repoDigests"] =
        std::vector<std::string>(image.repo_digests().begin(), image.repo_digests().end());
    entry["size"] = image.size();
    if (image.has_uid()) entry["uid"] = image.uid().value();
    if (!image.username().empty()) entry["username"] = image.username();
    entry["pinned"] = image.pinned();
    list.push_back(std::move(entry));
  }
  base::OrderedJson document;
  document["images"] = std::move(list);
  return document.dump(2, ' ', false, base::OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace crispd
