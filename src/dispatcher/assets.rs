//! The page: plain files of `web/`, embedded in the binary, so that the map works with nothing but this process.

/// One file of the page.
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal $content_type:ident $file:literal,)*) => {
        /// Every file of the page.
        pub const ASSETS: &[Asset] = &[$(Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("web/", $file)),
        },)*];
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

assets! {
    "/" HTML "index.html",
    "/web/style.css" CSS "style.css",
    "/web/main.js" SCRIPT "main.js",
    "/web/stream.js" SCRIPT "stream.js",
    "/web/fleet.js" SCRIPT "fleet.js",
    "/web/camera.js" SCRIPT "camera.js",
    "/web/roads.js" SCRIPT "roads.js",
    "/web/streets.js" SCRIPT "streets.js",
    "/web/vehicles.js" SCRIPT "vehicles.js",
    "/web/alarms.js" SCRIPT "alarms.js",
    "/web/detail.js" SCRIPT "detail.js",
    "/web/search.js" SCRIPT "search.js",
    "/web/theme.js" SCRIPT "theme.js",
    "/web/text.js" SCRIPT "text.js",
    "/web/leaflet.js" SCRIPT "vendor/leaflet/leaflet.js",
    "/web/leaflet.css" CSS "vendor/leaflet/leaflet.css",
}
