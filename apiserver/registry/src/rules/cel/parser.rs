//! A descent over the grammar of CEL that carries types instead of a tree.

use super::lexer::{Token, tokens};
use super::{Scope, Type, is_identifier};

type Outcome = Result<Type, String>;

/// How deep an expression may nest.
const DEPTH_MAX: usize = 100;

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    scope: &'a Scope,
    /// Variables of the macros around.
    bound: Vec<String>,
    depth: usize,
}

/// Functions that stand alone, with what they return.
const FUNCTIONS: [(&str, Type); 25] = [
    ("size", Type::Int),
    ("int", Type::Int),
    ("uint", Type::Uint),
    ("double", Type::Double),
    ("string", Type::String),
    ("bytes", Type::Bytes),
    ("bool", Type::Bool),
    ("type", Type::Dyn),
    ("dyn", Type::Dyn),
    ("duration", Type::Dyn),
    ("timestamp", Type::Dyn),
    ("has", Type::Bool),
    ("matches", Type::Bool),
    ("url", Type::Dyn),
    ("isURL", Type::Bool),
    ("quantity", Type::Dyn),
    ("isQuantity", Type::Bool),
    ("ip", Type::Dyn),
    ("isIP", Type::Bool),
    ("cidr", Type::Dyn),
    ("isCIDR", Type::Bool),
    ("semver", Type::Dyn),
    ("isSemver", Type::Bool),
    ("startsWith", Type::Bool),
    ("contains", Type::Bool),
];
/// Names of libraries, whose functions are called as members.
const LIBRARIES: [&str; 10] =
    ["cel", "math", "strings", "sets", "base64", "optional", "format", "ip", "lists", "jsonpatch"];
/// Members that give a truth, whatever they are called on.
const TRUTHS: [&str; 12] = [
    "all",
    "exists",
    "exists_one",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "allowed",
    "hasValue",
    "isSorted",
    "containsCIDR",
    "containsIP",
];
const MACROS: [&str; 9] =
    ["all", "exists", "exists_one", "map", "filter", "transformList", "transformMap", "transformMapEntry", "existsOne"];

/// The type of the whole text.
pub fn check(text: &str, scope: &Scope) -> Outcome {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, scope, bound: Vec::new(), depth: 0 };
    let ty = parser.expression()?;
    match parser.peek() {
        None => Ok(ty),
        Some(token) => Err(format!("syntax error: unexpected {token:?}")),
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol)
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let here = self.is(symbol);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, symbol: &str) -> Result<(), String> {
        if self.eat(symbol) { Ok(()) } else { Err(format!("syntax error: expected {symbol:?}")) }
    }

    fn expression(&mut self) -> Outcome {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("expression nests too deeply".to_owned());
        }
        let ty = self.ternary();
        self.depth -= 1;
        ty
    }

    fn ternary(&mut self) -> Outcome {
        let condition = self.either()?;
        if !self.eat("?") {
            return Ok(condition);
        }
        truth(condition)?;
        let yes = self.either()?;
        self.expect(":")?;
        let no = self.expression()?;
        Ok(if yes == no { yes } else { Type::Dyn })
    }

    fn either(&mut self) -> Outcome {
        let mut ty = self.both()?;
        while self.eat("||") {
            truth(ty)?;
            truth(self.both()?)?;
            ty = Type::Bool;
        }
        Ok(ty)
    }

    fn both(&mut self) -> Outcome {
        let mut ty = self.relation()?;
        while self.eat("&&") {
            truth(ty)?;
            truth(self.relation()?)?;
            ty = Type::Bool;
        }
        Ok(ty)
    }

    fn relation(&mut self) -> Outcome {
        let mut ty = self.sum()?;
        loop {
            let comparison = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|s| self.is(s));
            let within = matches!(self.peek(), Some(Token::Name(n)) if n == "in");
            if comparison.is_none() && !within {
                return Ok(ty);
            }
            self.at += 1;
            let other = self.sum()?;
            if within && !matches!(other, Type::List | Type::Map | Type::Dyn) {
                return Err("found no matching overload for 'in'".to_owned());
            }
            if !within && !comparable(ty, other) {
                return Err(format!("found no matching overload for {:?}", comparison.unwrap_or("")));
            }
            ty = Type::Bool;
        }
    }

    fn sum(&mut self) -> Outcome {
        let mut ty = self.product()?;
        while self.is("+") || self.is("-") {
            self.at += 1;
            ty = arithmetic(ty, self.product()?)?;
        }
        Ok(ty)
    }

    fn product(&mut self) -> Outcome {
        let mut ty = self.unary()?;
        while self.is("*") || self.is("/") || self.is("%") {
            self.at += 1;
            ty = arithmetic(ty, self.unary()?)?;
        }
        Ok(ty)
    }

    fn unary(&mut self) -> Outcome {
        if self.eat("!") {
            truth(self.unary()?)?;
            return Ok(Type::Bool);
        }
        if self.eat("-") {
            let ty = self.unary()?;
            return match ty {
                Type::Int | Type::Double | Type::Dyn => Ok(ty),
                _ => Err("found no matching overload for '-_'".to_owned()),
            };
        }
        self.member()
    }

    fn member(&mut self) -> Outcome {
        let mut ty = self.primary()?;
        loop {
            if self.eat(".") || self.eat(".?") {
                let name = self.name()?;
                ty = if self.eat("(") { self.call(&name)? } else { Type::Dyn };
            } else if self.eat("[") || self.eat("[?") {
                self.expression()?;
                self.expect("]")?;
                ty = Type::Dyn;
            } else {
                return Ok(ty);
            }
        }
    }

    /// A field's name; a quoted one may hold any character.
    fn name(&mut self) -> Result<String, String> {
        let quoted = self.eat("`");
        let mut name = String::new();
        while let Some(token) = self.peek().cloned() {
            match token {
                Token::Name(word) => name.push_str(&word),
                Token::Symbol(s) if quoted && s != "`" => name.push_str(s),
                _ if quoted && !self.is("`") => {}
                _ => break,
            }
            self.at += 1;
            if !quoted {
                break;
            }
        }
        if quoted {
            self.expect("`")?;
        }
        if name.is_empty() { Err("syntax error: expected a name".to_owned()) } else { Ok(name) }
    }

    /// The arguments of a member, after its bracket.
    fn call(&mut self, name: &str) -> Outcome {
        let before = self.bound.len();
        if MACROS.contains(&name) || name == "bind" || name.starts_with("opt") {
            self.bind();
        }
        self.arguments(")")?;
        self.bound.truncate(before);
        Ok(match name {
            _ if TRUTHS.contains(&name) => Type::Bool,
            "map" | "filter" | "split" => Type::List,
            "size" | "indexOf" | "lastIndexOf" => Type::Int,
            "lowerAscii" | "upperAscii" | "replace" | "trim" | "join" => Type::String,
            _ => Type::Dyn,
        })
    }

    /// A macro's first arguments name its variables: they are known in the rest.
    fn bind(&mut self) {
        while let (Some(Token::Name(word)), Some(Token::Symbol(","))) = (self.peek(), self.tokens.get(self.at + 1)) {
            self.bound.push(word.clone());
            self.at += 2;
        }
    }

    fn arguments(&mut self, end: &str) -> Result<(), String> {
        while !self.eat(end) {
            self.eat("?");
            self.expression()?;
            if !self.eat(",") {
                return self.expect(end);
            }
        }
        Ok(())
    }

    fn primary(&mut self) -> Outcome {
        let Some(token) = self.peek().cloned() else {
            return Err("syntax error: unexpected end of the expression".to_owned());
        };
        self.at += 1;
        match token {
            Token::Int => Ok(Type::Int),
            Token::Uint => Ok(Type::Uint),
            Token::Double => Ok(Type::Double),
            Token::String => Ok(Type::String),
            Token::Bytes => Ok(Type::Bytes),
            Token::Symbol("(") => {
                let ty = self.expression()?;
                self.expect(")")?;
                Ok(ty)
            }
            Token::Symbol("[" | "[?") => self.arguments("]").map(|()| Type::List),
            Token::Symbol("{" | "{?") => self.entries().map(|()| Type::Map),
            Token::Symbol(".") => self.primary(),
            Token::Name(name) => self.named(&name),
            Token::Symbol(symbol) => Err(format!("syntax error: unexpected {symbol:?}")),
        }
    }

    fn entries(&mut self) -> Result<(), String> {
        while !self.eat("}") {
            self.eat("?");
            self.expression()?;
            self.expect(":")?;
            self.expression()?;
            if !self.eat(",") {
                return self.expect("}");
            }
        }
        Ok(())
    }

    fn named(&mut self, name: &str) -> Outcome {
        match name {
            "true" | "false" => return Ok(Type::Bool),
            "null" => return Ok(Type::Null),
            _ => {}
        }
        if self.eat("(") {
            self.arguments(")")?;
            let known = FUNCTIONS.iter().find(|(f, _)| *f == name);
            return known.map(|(_, ty)| *ty).ok_or_else(|| format!("undeclared reference to '{name}'"));
        }
        if self.bound.iter().any(|b| b == name) {
            return Ok(Type::Dyn);
        }
        if !self.scope.knows(name) {
            // A library's name, or the type of an object to be built.
            let member = self.is(".") || self.is("{");
            let known = LIBRARIES.contains(&name) || name == "Object" || name == "JSONPatch" || name == "google";
            let ty =
                matches!(name, "int" | "uint" | "double" | "string" | "bytes" | "bool" | "list" | "map" | "null_type");
            if (known && member) || ty {
                return if self.is("{") { self.message() } else { Ok(Type::Dyn) };
            }
            return Err(if is_identifier(name) {
                format!("undeclared reference to '{name}' (in container '')")
            } else {
                format!("syntax error: reserved identifier: {name}")
            });
        }
        self.known_field(name)?;
        Ok(Type::Dyn)
    }

    fn message(&mut self) -> Outcome {
        self.expect("{")?;
        while !self.eat("}") {
            self.name()?;
            self.expect(":")?;
            self.expression()?;
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Type::Dyn)
    }

    /// Where a name's fields are known, the one that follows is among them.
    fn known_field(&self, name: &str) -> Result<(), String> {
        let Some(fields) = self.scope.fields(name) else { return Ok(()) };
        if let (Some(Token::Symbol(".")), Some(Token::Name(field))) = (self.peek(), self.tokens.get(self.at + 1)) {
            let called = matches!(self.tokens.get(self.at + 2), Some(Token::Symbol("(")));
            if !called && !fields.iter().any(|f| f == field) {
                return Err(format!("undefined field '{field}'"));
            }
        }
        Ok(())
    }
}

fn truth(ty: Type) -> Result<(), String> {
    match ty {
        Type::Bool | Type::Dyn => Ok(()),
        _ => Err("found no matching overload: expected bool".to_owned()),
    }
}

fn is_number(ty: Type) -> bool {
    matches!(ty, Type::Int | Type::Uint | Type::Double)
}

fn comparable(a: Type, b: Type) -> bool {
    a == b || a == Type::Dyn || b == Type::Dyn || (is_number(a) && is_number(b)) || a == Type::Null || b == Type::Null
}

fn arithmetic(a: Type, b: Type) -> Outcome {
    match (a, b) {
        (Type::Dyn, other) | (other, Type::Dyn) if other != Type::Bool => Ok(Type::Dyn),
        _ if a == b && !matches!(a, Type::Bool | Type::Null | Type::Map) => Ok(a),
        _ => Err("found no matching overload".to_owned()),
    }
}
