//! Text to tokens. Which words are operators depends on the token before: only a label can be followed by one.

use std::fmt;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::value;
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::parse::SelectorError;

/// The longest label name, in bytes.
const LABEL_LEN_MAX: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Label(&'a str),
    Text(&'a str),
    Has(&'a str),
    All,
    Global,
    OpenParen,
    CloseParen,
    OpenBrace,
    CloseBrace,
    Comma,
    Equal,
    NotEqual,
    And,
    Or,
    Not,
    Contains,
    StartsWith,
    EndsWith,
    NotIn,
    In,
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Label(name) => return write!(f, "label {name}"),
            Self::Text(text) => return write!(f, "string {text:?}"),
            Self::Has(label) => return write!(f, "has({label})"),
            Self::All => "all()",
            Self::Global => "global()",
            Self::OpenParen => "(",
            Self::CloseParen => ")",
            Self::OpenBrace => "{",
            Self::CloseBrace => "}",
            Self::Comma => ",",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::And => "&&",
            Self::Or => "||",
            Self::Not => "!",
            Self::Contains => "contains",
            Self::StartsWith => "starts with",
            Self::EndsWith => "ends with",
            Self::NotIn => "not in",
            Self::In => "in",
            Self::End => "end of selector",
        })
    }
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

fn space(input: &str) -> IResult<&str, &str> {
    take_while(|c| c == ' ' || c == '\t').parse(input)
}

fn identifier(input: &str) -> IResult<&str, &str> {
    take_while1(is_identifier).parse(input)
}

fn punctuation(input: &str) -> IResult<&str, Token<'_>> {
    alt((
        value(Token::OpenParen, char('(')),
        value(Token::CloseParen, char(')')),
        value(Token::OpenBrace, char('{')),
        value(Token::CloseBrace, char('}')),
        value(Token::Comma, char(',')),
        value(Token::Equal, tag("==")),
        value(Token::NotEqual, tag("!=")),
        value(Token::Not, char('!')),
        value(Token::And, tag("&&")),
        value(Token::Or, tag("||")),
    ))
    .parse(input)
}

fn text(input: &str) -> IResult<&str, Token<'_>> {
    let quoted = |quote: char| delimited(char(quote), take_till(move |c| c == quote), char(quote));
    alt((quoted('"'), quoted('\''))).map(Token::Text).parse(input)
}

/// The words between a label and its value. A two-word operator takes any space between the words, or none, and
/// skips space before the check for a word boundary.
fn operator(input: &str) -> IResult<&str, Token<'_>> {
    let two = |first, second| terminated(preceded((tag(first), space), tag(second)), space);
    let (rest, token) = alt((
        value(Token::Contains, terminated(tag("contains"), boundary)),
        value(Token::StartsWith, terminated(two("starts", "with"), boundary)),
        value(Token::EndsWith, terminated(two("ends", "with"), boundary)),
        value(Token::NotIn, terminated(two("not", "in"), boundary)),
        value(Token::In, terminated(tag("in"), boundary)),
    ))
    .parse(input)?;
    Ok((rest, token))
}

fn boundary(input: &str) -> IResult<&str, ()> {
    nom::combinator::not(identifier).parse(input)
}

/// `has(l)`, `all()` and `global()`, each one token, once its opening is there.
fn call(input: &str) -> Option<Result<(&str, Token<'_>), SelectorError>> {
    let close = |rest, name, token| match preceded(space, char::<_, nom::error::Error<&str>>(')')).parse(rest)
    {
        Ok((rest, _)) => Ok((rest, token)),
        Err(_) => Err(SelectorError::NotClosed(name)),
    };
    if let Some(rest) = input.strip_prefix("has(") {
        return Some(match preceded(space, identifier).parse(rest) {
            Err(_) => Err(SelectorError::ExpectedIdentifier),
            Ok((_, label)) if label.len() > LABEL_LEN_MAX => {
                Err(SelectorError::LabelTooLong(label.to_owned()))
            }
            Ok((rest, label)) => close(rest, "has", Token::Has(label)),
        });
    }
    if let Some(rest) = input.strip_prefix("all(") {
        return Some(close(rest, "all", Token::All));
    }
    input
        .strip_prefix("global(")
        .map(|rest| close(rest, "global", Token::Global))
}

fn next<'a>(input: &'a str, after: Option<&Token<'a>>) -> Result<(&'a str, Token<'a>), SelectorError> {
    if let Ok(found) = punctuation(input) {
        return Ok(found);
    }
    match input.chars().next() {
        Some('"' | '\'') => return text(input).map_err(|_| SelectorError::UnterminatedString),
        Some('=') => return Err(SelectorError::Expected("==")),
        Some('&') => return Err(SelectorError::Expected("&&")),
        Some('|') => return Err(SelectorError::Expected("||")),
        _ => {}
    }
    if let Some(Token::Label(label)) = after {
        return operator(input).map_err(|_| SelectorError::ExpectedOperator((*label).to_owned()));
    }
    if let Some(found) = call(input) {
        return found;
    }
    match identifier(input) {
        Ok((_, label)) if label.len() > LABEL_LEN_MAX => Err(SelectorError::LabelTooLong(label.to_owned())),
        Ok((rest, label)) => Ok((rest, Token::Label(label))),
        Err(_) => Err(SelectorError::UnexpectedCharacter(
            input.chars().next().unwrap_or_default(),
        )),
    }
}

/// All tokens of a selector, ending with [`Token::End`].
pub(super) fn tokens(mut input: &str) -> Result<Vec<Token<'_>>, SelectorError> {
    let mut tokens = Vec::new();
    loop {
        input = input.trim_start_matches([' ', '\t']);
        if input.is_empty() {
            tokens.push(Token::End);
            return Ok(tokens);
        }
        let (rest, token) = next(input, tokens.last())?;
        tokens.push(token);
        input = rest;
    }
}
