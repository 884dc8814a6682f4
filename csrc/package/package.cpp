#include "package/package.h"

#include <utility>

#include "graph/check.h"
#include "graph/read.h"
#include "package/error.h"
#include "package/json.h"
#include "package/safetensors.h"
#include "package/sha256.h"

namespace mobilequant {
namespace {

constexpr std::size_t kMaxJsonBytes = 64 << 20;

Json read_json(std::span<const std::byte> file, const std::string& where) {
    require(file.size() <= kMaxJsonBytes, where + " has more than 64 MB");
    return Json::parse({reinterpret_cast<const char*>(file.data()), file.size()}, where);
}

void check_version(const Json& manifest) {
    const Json *format = manifest.find("format"), *version = manifest.find("version");
    require(format && format->string("format") == "mobilequant-package", "package.json is of no MobileQuant package");
    require(version && version->integer("version") == 1, "the package is of a version that this program does not read");
}

// A file must have the size and the hash that the manifest says.
void check_listed(const Json& files, std::span<const std::byte> file, const std::string& name) {
    const Json* entry = files.find(name);
    require(entry, "package.json does not list " + name);
    const Json *bytes = entry->find("bytes"), *sha256 = entry->find("sha256");
    require(bytes && sha256, "package.json says no size or hash of " + name);
    require(bytes->integer(name) == static_cast<std::int64_t>(file.size()),
            name + " has another size than package.json says");
    require(sha256->string(name) == hexadecimal(mobilequant::sha256(file)), name + " was changed after it was written");
}

// A link may name another file of the folder, not one outside: the folder is what was looked at and copied.
MappedFile open_inside(const std::filesystem::path& folder, const char* name) {
    std::error_code error;
    const auto real = std::filesystem::canonical(folder / name, error);
    require(!error, (folder / name).string() + ": " + error.message());
    require(real.parent_path() == std::filesystem::canonical(folder),
            std::string(name) + " is a link out of the package");
    return MappedFile(real);
}

std::optional<std::int32_t> read_leading_token(const Json& manifest, std::int64_t vocab_size) {
    const Json* token = manifest.find("leading_token");
    if (!token || token->is_null()) return std::nullopt;
    const std::int64_t id = token->integer("leading_token");
    require(0 <= id && id < vocab_size, "leading_token is outside the vocabulary");
    return static_cast<std::int32_t>(id);
}

}  // namespace

Package Package::open(const std::filesystem::path& folder) {
    const MappedFile manifest = open_inside(folder, "package.json");
    check_version(read_json(manifest.bytes(), "package.json"));  // another version may have other files
    const MappedFile graph = open_inside(folder, "graph.json");
    MappedFile weights = open_inside(folder, "weights.safetensors");
    Package package = read({manifest.bytes(), graph.bytes(), weights.bytes()});
    weights.release(weights.bytes());  // all of it was read to be checked
    package.weights_ = std::move(weights);
    return package;
}

Package Package::read(const PackageBytes& files, Hashes hashes) {
    const Json manifest = read_json(files.manifest, "package.json");
    check_version(manifest);
    const Json* listed = manifest.find("files");
    require(listed, "package.json lists no files");
    if (hashes == Hashes::checked) {
        check_listed(*listed, files.graph, "graph.json");
        check_listed(*listed, files.weights, "weights.safetensors");
    }
    const Json description = read_json(files.graph, "graph.json");
    const Json* entries = description.find("constants");
    require(entries, "graph.json lists no constants");
    std::vector<Constant> constants = read_constants(*entries, read_safetensors(files.weights, "weights.safetensors"));
    Graph graph = read_graph(description, constants);
    check_graph(graph);
    const auto leading = read_leading_token(manifest, graph.vocab_size);
    return Package(std::move(constants), std::move(graph), leading);
}

}  // namespace mobilequant
