// SPDX-License-Identifier: Apache-2.0

//! `#[callout::plugin]`: see the crate `callout`, which documents it.
//!
//! It reads the tokens of one `impl` block by itself, so that a plugin needs neither syn nor quote.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// The hooks with a message: `fn` or `async fn`.
const MESSAGE_HOOKS: &[&str] = &[
    "request_headers",
    "response_headers",
    "request_body",
    "response_body",
    "request_trailers",
    "response_trailers",
    "check",
    "rate_limit",
    "connection",
    "read_data",
    "write_data",
];

/// What else a plugin may have.
const OTHER_FUNCTIONS: &[&str] = &["create", "stream_open", "stream_end"];

/// The plugin of this file: put it on `impl Plugin for TheType`.
///
/// It exports the hooks that the block has, so that the host calls nothing in vain. For async hooks and
/// the state of streams it also exports `stream_open`, `stream_cancel` and `stream_close`, which the crate
/// has. A hook may be an `async fn`. `type Config` and `type Stream` may be left out: they are `()`.
///
/// `#[callout::plugin(no_export)]` exports nothing: for a second plugin in one crate, and for tests.
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments, item).unwrap_or_else(|(span, text)| error(span, &text))
}

type Failure = (Span, String);

fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Failure> {
    let exports = match arguments.to_string().as_str() {
        "" => true,
        "no_export" => false,
        other => {
            let text = format!("unknown argument `{other}`; the only one is `no_export`");
            return Err((Span::call_site(), text));
        }
    };
    let block = Block::read(item)?;
    let mut sync_items = TokenStream::new();
    let mut async_items = TokenStream::new();
    // Each hook, and the function of `callout::ffi` that runs it.
    let mut hooks: Vec<(String, String)> = vec![];
    let (mut has_config, mut has_stream, mut has_async) = (false, false, false);
    let mut has_open = false;
    let mut has_end = false;
    for item in split_items(block.body) {
        let kind = ItemKind::of(&item);
        match &kind {
            ItemKind::Type(name) if name == "Config" => has_config = true,
            ItemKind::Type(name) if name == "Stream" => has_stream = true,
            ItemKind::Function { name, .. } if name == "stream_open" => has_open = true,
            ItemKind::Function { name, .. } if name == "stream_end" => has_end = true,
            _ => {}
        }
        if let ItemKind::Function { name, is_async } = kind {
            let is_hook = MESSAGE_HOOKS.contains(&name.as_str());
            if is_async && !is_hook {
                return Err((span_of(&item), not_async(&name)));
            }
            if is_hook {
                let prefix = if is_async { "async_" } else { "" };
                let run = format!("{prefix}{name}");
                hooks.push((name, run));
            }
            if is_async {
                has_async = true;
                async_items.extend(item);
                continue;
            }
        }
        sync_items.extend(item);
    }
    if hooks.is_empty() {
        let text = format!(
            "a plugin needs at least one hook: {}",
            MESSAGE_HOOKS.join(", ")
        );
        return Err((Span::call_site(), text));
    }
    let of_streams = [
        ("stream_open", has_open || has_async),
        ("stream_cancel", has_async),
        ("stream_close", has_stream || has_async || has_end),
    ];
    for (hook, is_needed) in of_streams {
        if is_needed {
            hooks.push((hook.into(), hook.into()));
        }
    }
    if !has_config {
        sync_items.extend(parse("type Config = ();"));
    }
    if !has_stream {
        sync_items.extend(parse("type Stream = ();"));
    }

    let mut out = TokenStream::new();
    out.extend(block.head);
    out.extend([TokenTree::Group(Group::new(Delimiter::Brace, sync_items))]);
    if has_async {
        out.extend(parse("impl ::callout::AsyncPlugin for"));
        out.extend(block.name.clone());
        out.extend([TokenTree::Group(Group::new(Delimiter::Brace, async_items))]);
    }
    let name = block.name.to_string();
    out.extend(parse(&hook_table(&name, &hooks, has_async, has_end)));
    if exports {
        out.extend(parse(&exported(&name, &hooks)));
    }
    Ok(out)
}

/// Why a function of this name cannot be an `async fn`.
fn not_async(name: &str) -> String {
    if OTHER_FUNCTIONS.contains(&name) {
        return format!("`{name}` cannot be async: only hooks that get a message can");
    }
    let bare = name.strip_prefix("on_").unwrap_or(name);
    let nearest = MESSAGE_HOOKS
        .iter()
        .map(|hook| (distance(bare, hook), hook))
        .min();
    match nearest {
        Some((edits, hook)) if edits <= 3 => {
            format!("there is no hook `{name}`; did you mean `{hook}`?")
        }
        _ => format!(
            "there is no hook `{name}`; there is: {}",
            MESSAGE_HOOKS.join(", ")
        ),
    }
}

/// How many letters have to be put in, left out or changed to make one of the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

/// The hooks as a table, for the exports and for `callout::testing`.
fn hook_table(name: &str, hooks: &[(String, String)], has_async: bool, has_end: bool) -> String {
    let mut table = String::new();
    for (hook, run) in hooks {
        table += &format!("{hook}: Some(::callout::ffi::{run}::<{name}>),");
    }
    format!(
        "impl ::callout::ffi::Exported for {name} {{
             const HAS_ASYNC: bool = {has_async};
             const HAS_END: bool = {has_end};
             const HOOKS: ::callout::ffi::Hooks = ::callout::ffi::Hooks {{
                 {table}
                 ..::callout::ffi::Hooks::NONE
             }};
         }}"
    )
}

fn exported(name: &str, hooks: &[(String, String)]) -> String {
    let mut functions = String::new();
    for (hook, run) in hooks {
        let result = match hook.as_str() {
            "stream_cancel" | "stream_close" => "",
            _ => "-> i32",
        };
        functions += &format!(
            "#[unsafe(no_mangle)]
             pub unsafe extern \"C\" fn callout_on_{hook}(call: *mut ::callout::raw::Call) {result} {{
                 unsafe {{ ::callout::ffi::{run}::<{name}>(call) }}
             }}"
        );
    }
    format!(
        "#[allow(non_upper_case_globals)]
         const _: () = {{
             #[unsafe(no_mangle)]
             pub static callout_abi_version: u32 = ::callout::raw::ABI_VERSION;
             #[unsafe(no_mangle)]
             pub static callout_abi_revision: u32 = ::callout::raw::ABI_REVISION;
             #[unsafe(no_mangle)]
             pub static callout_plugin_info: ::callout::ffi::Info = ::callout::ffi::Info::new(
                 concat!(env!(\"CARGO_PKG_NAME\"), \"\\0\"),
                 concat!(env!(\"CARGO_PKG_VERSION\"), \"\\0\"),
                 concat!(env!(\"CARGO_PKG_DESCRIPTION\"), \"\\0\"),
             );
             #[unsafe(no_mangle)]
             pub unsafe extern \"C\" fn callout_plugin_create(
                 args: *mut ::callout::raw::CreateArgs,
             ) -> i32 {{
                 unsafe {{ ::callout::ffi::create::<{name}>(args) }}
             }}
             #[unsafe(no_mangle)]
             pub unsafe extern \"C\" fn callout_plugin_destroy(plugin: *mut ::std::ffi::c_void) {{
                 unsafe {{ ::callout::ffi::destroy::<{name}>(plugin) }}
             }}
             {functions}
         }};"
    )
}

/// `impl Plugin for Name { … }`
struct Block {
    head: TokenStream,
    name: TokenStream,
    body: TokenStream,
}

impl Block {
    fn read(item: TokenStream) -> Result<Block, Failure> {
        let wrong = |span| {
            let text = "put #[callout::plugin] on `impl Plugin for Type`, with a type that has no parameters";
            Err((span, text.to_string()))
        };
        let mut tokens: Vec<TokenTree> = item.into_iter().collect();
        let body = match tokens.pop() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                group.stream()
            }
            _ => return wrong(Span::call_site()),
        };
        let position = |word: &str| tokens.iter().position(|token| is_word(token, word));
        let (Some(begin), Some(middle)) = (position("impl"), position("for")) else {
            return wrong(Span::call_site());
        };
        let name: Vec<TokenTree> = tokens[middle + 1..].to_vec();
        let is_generic =
            |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == '<');
        if name.is_empty() || is_generic(&tokens[begin + 1]) || name.iter().any(is_generic) {
            return wrong(tokens[begin].span());
        }
        Ok(Block {
            head: tokens.into_iter().collect(),
            name: name.into_iter().collect(),
            body,
        })
    }
}

enum ItemKind {
    Type(String),
    Function { name: String, is_async: bool },
    Other,
}

impl ItemKind {
    fn of(item: &TokenStream) -> ItemKind {
        let mut is_async = false;
        let mut tokens = item.clone().into_iter();
        while let Some(token) = tokens.next() {
            if is_word(&token, "async") {
                is_async = true;
            }
            if is_word(&token, "type") || is_word(&token, "fn") {
                let name = match tokens.next() {
                    Some(TokenTree::Ident(name)) => name.to_string(),
                    _ => return ItemKind::Other,
                };
                return match is_word(&token, "type") {
                    true => ItemKind::Type(name),
                    false => ItemKind::Function { name, is_async },
                };
            }
        }
        ItemKind::Other
    }
}

/// A function ends with its block, anything else with `;`.
fn split_items(body: TokenStream) -> Vec<TokenStream> {
    let (mut items, mut item, mut is_function) = (vec![], vec![], false);
    for token in body {
        is_function |= is_word(&token, "fn");
        let ends = match &token {
            TokenTree::Group(group) => is_function && group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        item.push(token);
        if ends {
            items.push(std::mem::take(&mut item).into_iter().collect());
            is_function = false;
        }
    }
    if !item.is_empty() {
        items.push(item.into_iter().collect());
    }
    items
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

fn span_of(item: &TokenStream) -> Span {
    let first = item.clone().into_iter().next();
    first.map_or(Span::call_site(), |token| token.span())
}

fn parse(text: &str) -> TokenStream {
    text.parse().expect("the macro writes Rust")
}

/// `compile_error!(text);` at `span`
fn error(span: Span, text: &str) -> TokenStream {
    let mut tokens: Vec<TokenTree> = parse(&format!("compile_error!({text:?});"))
        .into_iter()
        .collect();
    for token in &mut tokens {
        token.set_span(span);
    }
    // The identifier has to be at the place as well, to be underlined there.
    tokens[0] = TokenTree::Ident(Ident::new("compile_error", span));
    tokens.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_async_function_that_is_no_hook_gets_the_nearest_hook() {
        for (name, hook) in [
            ("on_request_headers", "request_headers"),
            ("request_header", "request_headers"),
            ("respones_body", "response_body"),
            ("chek", "check"),
        ] {
            let text = format!("there is no hook `{name}`; did you mean `{hook}`?");
            assert_eq!(not_async(name), text);
        }
        assert!(not_async("refresh_the_list").contains("there is: request_headers, "));
        assert!(not_async("create").starts_with("`create` cannot be async"));
    }
}
