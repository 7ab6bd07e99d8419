//! A page's frame, its style sheet, tables and cards.

use std::fmt::{Result, Write};

use crate::{chart::STYLE, text::escape};

const PAGE_STYLE: &str = "\
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--text:#111827;--quiet:#5b6472;\
--line:#e5e7eb;--bad:#b91c1c;--good:#15803d}\
@media(prefers-color-scheme:dark){:root{--back:#0f1319;--card:#171c24;--text:#e8eaee;\
--quiet:#9aa4b2;--line:#2b3340;--bad:#f87171;--good:#4ade80}}\
*{box-sizing:border-box}body{margin:0;padding:28px;background:var(--back);color:var(--text);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\
main{max-width:1440px;margin:auto}h1{font-size:26px;margin:0}h2{font-size:18px;margin:32px 0 12px}\
.quiet{color:var(--quiet)}code{display:block;margin:10px 0;padding:8px 12px;background:var(--card);\
border:1px solid var(--line);border-radius:8px;overflow-wrap:anywhere;\
font:13px/1.5 ui-monospace,Menlo,'DejaVu Sans Mono',monospace}\
.facts span{display:inline-block;margin:0 18px 4px 0}.facts b{font-weight:600}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:20px 0}\
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}\
.tile b{display:block;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(560px,100%),1fr));gap:14px}\
.card svg{display:block;width:100%;height:auto}.card{overflow-x:auto}.card+.card{margin-top:14px}\
.charts .card+.card{margin-top:0}.charts+.card{margin-top:14px}\
table{border-collapse:collapse;min-width:min(100%,520px);font-variant-numeric:tabular-nums}\
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\
th:first-child,td:first-child,th.words,td.words{text-align:left}\
td.words:nth-child(n+3){white-space:normal;min-width:12em}\
th{font-weight:600;color:var(--quiet)}tr:last-child td{border-bottom:0}\
td.bad,b.bad{color:var(--bad);font-weight:600}td.good,b.good{color:var(--good);font-weight:600}";

/// What a cell of a table is besides its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A figure: to the right.
    #[default]
    Figure,
    /// Words: to the left.
    Words,
    /// Words that say that something is as it must be.
    Good,
    /// Something that is not as it must be.
    Bad,
}

impl Kind {
    /// In a column whose head is of `column`: what is bad may be a figure or words.
    fn classes(self, column: Self) -> &'static str {
        match (self, column) {
            (Self::Figure, _) => "",
            (Self::Words, _) => " class=\"words\"",
            (Self::Good, _) => " class=\"words good\"",
            (Self::Bad, Self::Words) => " class=\"words bad\"",
            (Self::Bad, _) => " class=\"bad\"",
        }
    }
}

/// A whole page; `title` is text, `body` is HTML.
#[must_use]
pub fn whole(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{PAGE_STYLE}\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {body}</main>\n</body>\n</html>\n"
    )
}

/// A drawing of `size` (width, height) in a card.
///
/// # Errors
/// Only if writing to a `String` fails: never.
pub fn card(page: &mut String, title: &str, size: (f64, f64), drawing: &str) -> Result {
    let ((width, height), title) = (size, escape(title));
    writeln!(
        page,
        "<div class=\"card\"><svg class=\"chart\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
         aria-label=\"{title}\">\n{drawing}</svg></div>"
    )
}

/// Facts in a line: names and what they are.
///
/// # Errors
/// Only if writing to a `String` fails: never.
pub fn facts(page: &mut String, facts: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result {
    writeln!(page, "<div class=\"facts\">")?;
    for (name, fact) in facts {
        let (name, fact) = (escape(name.as_ref()), escape(fact.as_ref()));
        writeln!(page, "<span><span class=\"quiet\">{name}</span><b>{fact}</b></span>")?;
    }
    writeln!(page, "</div>")
}

/// A table in a card; nothing at all without rows.
///
/// # Errors
/// Only if writing to a `String` fails: never.
pub fn table<R: AsRef<[(String, Kind)]>>(
    page: &mut String,
    heads: &[(&str, Kind)],
    rows: impl Iterator<Item = R>,
) -> Result {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    writeln!(page, "<div class=\"card\"><table>\n<tr>")?;
    for (head, kind) in heads {
        write!(page, "<th{}>{}</th>", kind.classes(*kind), escape(head))?;
    }
    writeln!(page, "</tr>")?;
    for row in rows {
        write!(page, "<tr>")?;
        for (at, (cell, kind)) in row.as_ref().iter().enumerate() {
            let column = heads.get(at).map_or(Kind::Figure, |(_, column)| *column);
            write!(page, "<td{}>{}</td>", kind.classes(column), escape(cell))?;
        }
        writeln!(page, "</tr>")?;
    }
    writeln!(page, "</table></div>")
}

/// Whether tags are closed in order: as much as HTML and SVG share. For tests of pages.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let mut open = Vec::new();
    for tag in text.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let name = tag.split([' ', '\n']).next().unwrap_or(tag);
        if let Some(name) = name.strip_prefix('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') && !["!doctype", "meta"].contains(&name) {
            open.push(name);
        }
    }
    open.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_serves_light_and_dark() {
        let page = whole("a < b", "<p>c</p>\n");
        assert!(is_well_formed(&page), "{page}");
        assert!(page.contains("<title>a &lt; b</title>") && page.contains("<p>c</p>"));
        assert!(page.contains("prefers-color-scheme:dark") && !page.contains("http"));
    }

    #[test]
    fn cells_are_harmless_and_say_in_colour_what_they_are() {
        let mut page = String::new();
        let rows = [[("<b>".to_owned(), Kind::Figure), ("MISSED".to_owned(), Kind::Bad)]];
        table(&mut page, &[("x", Kind::Figure), ("y", Kind::Words)], rows.iter())
            .expect("a String");
        assert!(page.contains("<td>&lt;b&gt;</td><td class=\"words bad\">MISSED</td>"), "{page}");
        assert!(is_well_formed(&page));
    }

    #[test]
    fn a_tag_left_open_is_seen() {
        assert!(!is_well_formed("<p><b></p>") && !is_well_formed("<p>"));
    }
}
