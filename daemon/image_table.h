// Images as people and programs read them: the output of `crisp image list`.
#pragma once

#include <cstdint>
#include <string>

#include "proto/cri.h"

namespace crispd {

enum class Digests { kHide, kShow };

// Columns as crictl's, a row for each tag, sorted by name; images without a name come last.
std::string ImageTable(const cri::ListImagesResponse& images, Digests digests);

// Whole ids, one for each image.
std::string ImageIds(const cri::ListImagesResponse& images);

// The CRI's message as JSON.
std::string ImagesJson(const cri::ListImagesResponse& images);

// An id as the table has it.
std::string ShortId(const std::string& id);

// "4.26MB", powers of 1000 and three digits, as crictl has it.
std::string SizeText(uint64_t bytes);

}  // namespace crispd
